"""The plugin's edge: what the `router-plugin` world of ../../wit asks, answered by tenant.py.

componentize-py looks for a class named after each exported interface. `wit_world` is generated from the WIT files:
`componentize-py -d ../../wit -w router-plugin bindings bindings` writes it out for an editor to read.
"""

from typing import Optional

from componentize_py_types import Err
from wit_world.exports.router import Action, Action_Cluster, Action_Pass, Action_Respond, Decision, Response
from wit_world.imports import host
from wit_world.imports.types import Field_Header, Manifest

import tenant

# What the origin is told of a request whose tenant is not configured.
UNKNOWN = "unknown"


class Answers:
    """One finished answer a tenant, made in `configure`: a question about a request is one look-up."""

    by_tenant: dict[str, Decision] = {}
    other: Decision


class Lifecycle:
    """Makes an instance ready."""

    def configure(self, config: str) -> Manifest:
        """Builds the finished answers; names the one field that `route` is handed."""
        try:
            header, set_header, clusters, denied = tenant.prepare(config)
        except tenant.ConfigError as error:
            raise Err(str(error)) from error  # The `err` of the WIT result; any other exception is a trap.

        # Neither list is ever empty: componentize-py 0.25 loses 16 bytes for each empty list of an answer.
        def answer(name: str, action: Action) -> Decision:
            return Decision(action, [(set_header, name)], [set_header])

        routed = {name: answer(name, Action_Cluster(cluster)) for name, cluster in clusters.items()}
        blocked = {name: answer(name, Action_Respond(_blocked(name))) for name in denied}
        Answers.by_tenant = routed | blocked
        Answers.other = answer(UNKNOWN, Action_Pass())
        host.log(host.Level.DEBUG, f"routing by {header}")
        return Manifest([Field_Header(header)])


class Router:
    """Answers the question."""

    def route(self, request: list[Optional[str]]) -> Decision:
        """`request` holds the value of the one field that the manifest names."""
        return Answers.by_tenant.get(request[0], Answers.other)


def _blocked(name: str) -> Response:
    return Response(403, [("content-type", "text/plain")], f"tenant {name} is blocked\n")
