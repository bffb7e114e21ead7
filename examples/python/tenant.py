"""Decides which answer each tenant gets. Plain Python with no Witgate import: `python -m unittest` runs it anywhere.

What it reads is plain data; `app.py` makes the contract's types of it once, when the plugin is configured.
"""

import json
import re

KEYS = ("header", "clusters", "deny", "set_header")
FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class ConfigError(Exception):
    """Names the key at fault and what would be right: the operator reads it."""


def prepare(text: str) -> tuple[str, str, dict[str, str], list[str]]:
    """The header that carries the tenant, the one to set, the cluster of each tenant, and who is denied.

    `text` is the plugin's `config` table as a JSON object: `header` (required) names the request header that carries
    the tenant, `clusters` maps a tenant to a cluster, `deny` lists the tenants that get a 403, and `set_header` names
    the request header that tells the origin the tenant (`x-witgate-tenant` unless given). What a client sent under that
    name is removed. Raises ConfigError.
    """
    config = _parse(text)
    header = _name(config, "header", None)
    set_header = _name(config, "set_header", "x-witgate-tenant")
    clusters, denied = _clusters(config), _denied(config)
    for tenant in denied:
        if tenant in clusters:
            raise ConfigError(f"`deny`: `{tenant}` is also in `clusters`; a tenant is either routed or denied")
    return header, set_header, clusters, denied


def _parse(text: str) -> dict:
    try:
        config = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"the config is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise ConfigError("the config must be a table")
    for key in config:
        if key not in KEYS:
            known = ", ".join(f"`{known}`" for known in KEYS)
            raise ConfigError(f"`{key}`: unknown key; known are {known}")
    return config


def _name(config: dict, key: str, default: str | None) -> str:
    """A field name per RFC 9110: the host would refuse anything else in an answer, so it is refused here by its key."""
    value = config.get(key, default)
    if isinstance(value, str) and FIELD_NAME.fullmatch(value):
        return value.lower()
    raise ConfigError(f'`{key}`: expected the name of a request header, such as "x-tenant"')


def _clusters(config: dict) -> dict[str, str]:
    value = config.get("clusters", {})
    if isinstance(value, dict) and all(isinstance(cluster, str) for cluster in value.values()):
        return value
    raise ConfigError('`clusters`: expected a table from tenant to cluster, such as { "acme": "acme" }')


def _denied(config: dict) -> list[str]:
    value = config.get("deny", [])
    if isinstance(value, list) and all(isinstance(tenant, str) for tenant in value):
        return value
    raise ConfigError('`deny`: expected a list of tenants, such as ["mallory"]')
