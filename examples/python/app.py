"""The plugin's edge: what the `router-plugin` world of ../../wit asks, answered by tenant.py.

componentize-py looks for a class named after each exported interface. `wit_world` is generated from the WIT files:
`componentize-py -d ../../wit -w router-plugin bindings bindings` writes it out for an editor to read.
"""

from typing import Optional

from componentize_py_types import Err
from wit_world.exports.router import Action_Cluster, Action_Pass, Action_Respond, Decision, Response
from wit_world.imports import host
from wit_world.imports.types import Field_Header, Manifest

import tenant

# Every answer is built once: a question about a request is one look-up. Building dataclasses costs more than the call.
PASS = Decision(Action_Pass(), [], [])
ANSWERS: dict[str, Decision] = {}


class Lifecycle:
    """Makes an instance ready."""

    def configure(self, config: str) -> Manifest:
        """Builds the finished answers; names the one field that `route` is handed."""
        try:
            header, set_header, clusters, denied = tenant.prepare(config)
        except tenant.ConfigError as error:
            raise Err(str(error)) from error  # The `err` of the WIT result; any other exception is a trap.
        ANSWERS.clear()
        for name, cluster in clusters.items():
            ANSWERS[name] = Decision(Action_Cluster(cluster), [(set_header, name)], [])
        for name in denied:
            ANSWERS[name] = Decision(Action_Respond(_blocked(name)), [], [])
        host.log(host.Level.DEBUG, f"routing by {header}")
        return Manifest([Field_Header(header)])


class Router:
    """Answers the question."""

    def route(self, request: list[Optional[str]]) -> Decision:
        """`request` holds the value of the one field that the manifest names."""
        return ANSWERS.get(request[0], PASS)


def _blocked(name: str) -> Response:
    return Response(403, [("content-type", "text/plain")], f"tenant {name} is blocked\n")
