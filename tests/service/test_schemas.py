"""Requests that schemathesis makes up from the service's own description: none may end in a fault of the service."""

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


HERE = {"Host": "127.0.0.1"}
BOUNDED = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def statuses_of(operation):
    """Ask many times, check every answer, and return the statuses that came."""
    statuses = set()

    @BOUNDED
    @given(case=operation.as_strategy())
    def ask(case):
        response = case.call(headers=HERE)
        case.validate_response(response, checks=CHECKS)
        statuses.add(response.status_code)

    ask()
    return statuses


def test_made_up_requests_get_answers_that_are_described(client_of):
    schema = schemathesis.openapi.from_asgi("/openapi.json", client_of().application.asgi, headers=HERE)
    statuses = {found.ok().path: statuses_of(found.ok()) for found in schema.get_all_operations()}
    assert len(statuses) == 11 and all(statuses.values())
    assert statuses["/v1/voice/forget"] >= {400} and statuses["/v1/voice/voices"] == {200}
