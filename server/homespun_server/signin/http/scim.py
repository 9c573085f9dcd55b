"""SCIM's endpoints, for the identity provider alone: it shows a token of its own, the setting scim_token."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import JSONResponse, Response
from pydantic import ValidationError
from scim2_models import (
    BaseModel,
    Context,
    Error,
    InvalidSyntaxException,
    ListResponse,
    NotFoundException,
    NotImplementedException,
    PatchOp,
    PayloadTooLargeException,
    Resource,
    ResponseParameters,
    SCIMException,
    SearchRequest,
    UnauthorizedException,
)
from scim2_models.path.expressions import AttrPath, CompareOperator, Comparison
from sqlalchemy import Connection

from homespun_core.errors import ConfigError, StorageError
from homespun_server.access.audit import Actor
from homespun_server.access.changing import Change, changing
from homespun_server.signin.http.doors import base_url, origin_of
from homespun_server.signin.scim import groups, users
from homespun_server.signin.scim.resources import MAX_RESULTS, SERVICE, Group, User

PATH = "/scim/v2"
_MAX_BYTES = 2_000_000
_TYPE = "application/scim+json"

Body = dict[str, Any]
_Payload = TypeVar("_Payload", bound=BaseModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """Users or groups: the same protocol over other tables."""

    model: type[Resource[Any]]
    search: type[SearchRequest[Any]]
    patch: type[PatchOp[Any]]
    page: type[ListResponse[Any]]
    key: str
    """The attribute that providers look them up by, besides externalId."""
    ids: Callable[[Connection, str | None, str | None], Sequence[str]]
    find: Callable[[Connection, str], Any]
    create: Callable[[Change, Any, str], str]
    """The string is the issuer of whoever signs people in; empty where nobody does."""
    write: Callable[[Change, str, Any], None]
    remove: Callable[[Change, str], None]


_KINDS = {
    "Users": _Kind(
        model=User,
        search=SearchRequest[User],
        patch=PatchOp[User],
        page=ListResponse[User],
        key="username",
        ids=users.ids,
        find=users.find,
        create=users.create,
        write=users.write,
        remove=users.remove,
    ),
    "Groups": _Kind(
        model=Group,
        search=SearchRequest[Group],
        patch=PatchOp[Group],
        page=ListResponse[Group],
        key="displayname",
        ids=groups.ids,
        find=groups.find,
        create=lambda change, wanted, issuer: groups.create(change, wanted),
        write=groups.write,
        remove=groups.remove,
    ),
}


def kind_of(kind: str) -> str:
    if kind in ("ServiceProviderConfig", "ResourceTypes", "Schemas"):
        raise _failure(405, "these can only be read")
    if kind == ".search":
        raise NotImplementedException(detail="search /Users or /Groups")
    if kind not in _KINDS:
        raise NotFoundException(detail="there are /Users and /Groups")
    return kind


def authorised(request: Request) -> None:
    expected = request.app.state.runtime.settings.scim_token.encode()
    scheme, _, shown = request.headers.get("authorization", "").partition(" ")
    if not expected:
        raise NotFoundException(detail="provisioning is off; set scim_token")
    if scheme.lower() != "bearer" or not secrets.compare_digest(shown.strip().encode("utf-8", "replace"), expected):
        raise UnauthorizedException(detail="the bearer token is not that of the setting scim_token")


async def body(request: Request) -> Body:
    parts, size = [], 0
    async for part in request.stream():
        parts.append(part)
        size += len(part)
        if size > _MAX_BYTES:
            raise PayloadTooLargeException(detail=f"the body is larger than {_MAX_BYTES:,} bytes")
    content = b"".join(parts)
    try:
        found = json.loads(content)
        json.dumps(found, ensure_ascii=False).encode()  # fails where there are halves of characters
    except (ValueError, RecursionError) as error:
        raise InvalidSyntaxException(detail="the body is no JSON") from error
    if b"\\u0000" in content:  # which PostgreSQL can't keep
        raise InvalidSyntaxException(detail="the body holds NUL characters")
    if not isinstance(found, dict):
        raise InvalidSyntaxException(detail="the body is no JSON object")
    return found


Kind = Annotated[str, Depends(kind_of)]
router = APIRouter(prefix=PATH, tags=["provisioning"], dependencies=[Depends(authorised)])


@router.get("/ServiceProviderConfig")
def config(request: Request) -> Response:
    assert SERVICE.config is not None
    return _reply(request, SERVICE.config, "ServiceProviderConfig")


@router.get("/ResourceTypes")
def resource_types(request: Request) -> Response:
    return _described(request, "ResourceTypes", SERVICE.resource_types)


@router.get("/ResourceTypes/{id}")
def resource_type(request: Request, id: str) -> Response:
    return _one_described(request, "ResourceTypes", SERVICE.resource_types, id)


@router.get("/Schemas")
def schemas(request: Request) -> Response:
    return _described(request, "Schemas", SERVICE.schemas)


@router.get("/Schemas/{id}")
def schema(request: Request, id: str) -> Response:
    return _one_described(request, "Schemas", SERVICE.schemas, id)


@router.get("/{kind}")
def search(request: Request, kind: Kind) -> Response:
    return _page(request, kind, dict(request.query_params))


@router.post("/{kind}/.search")
def search_by_post(request: Request, kind: Kind, fields: Annotated[Body, Depends(body)]) -> Response:
    return _page(request, kind, fields)


def _page(request: Request, kind: str, fields: Mapping[str, Any]) -> Response:
    found = _KINDS[kind]
    query = _read(found.search, fields, Context.SEARCH_REQUEST)
    start = query.start_index_0 or 0
    part = slice(start, start + min(MAX_RESULTS, MAX_RESULTS if query.count is None else query.count))
    with request.app.state.runtime.database.connect() as connection:
        total, page = _matching(connection, found, query, part)
    for resource in page:
        _locate(request, resource, kind)
    listed = found.page(total_results=total, start_index=start + 1, items_per_page=len(page), resources=page)
    return _json(listed.model_dump(scim_ctx=Context.RESOURCE_QUERY_RESPONSE, response_parameters=query))


@router.get("/{kind}/{id}")
def read(request: Request, kind: Kind, id: str) -> Response:
    with request.app.state.runtime.database.connect() as connection:
        resource = _found(connection, _KINDS[kind], id)
    return _reply(request, resource, kind)


@router.post("/{kind}", status_code=201)
def create(request: Request, kind: Kind, fields: Annotated[Body, Depends(body)]) -> Response:
    found = _KINDS[kind]
    wanted = _read(found.model, fields, Context.RESOURCE_CREATION_REQUEST)
    issuer = request.app.state.runtime.settings.oidc_issuer
    with _changing(request) as change:
        made = _found(change.connection, found, found.create(change, wanted, issuer))
    return _reply(request, made, kind, Context.RESOURCE_CREATION_RESPONSE, status=201)


@router.put("/{kind}/{id}")
def replace(request: Request, kind: Kind, id: str, fields: Annotated[Body, Depends(body)]) -> Response:
    found = _KINDS[kind]
    wanted = _read(found.model, fields, Context.RESOURCE_REPLACEMENT_REQUEST)
    with _changing(request) as change:
        wanted.replace(_found(change.connection, found, id))
        found.write(change, id, wanted)
        made = _found(change.connection, found, id)
    return _reply(request, made, kind, Context.RESOURCE_REPLACEMENT_RESPONSE)


@router.patch("/{kind}/{id}")
def patch(request: Request, kind: Kind, id: str, fields: Annotated[Body, Depends(body)]) -> Response:
    found = _KINDS[kind]
    operations = _read(found.patch, fields, Context.RESOURCE_PATCH_REQUEST)
    with _changing(request) as change:
        resource = _found(change.connection, found, id)
        if operations.patch(resource, scim_policy=SERVICE.policy):
            found.write(change, id, resource)
        made = _found(change.connection, found, id)
    return _reply(request, made, kind, Context.RESOURCE_PATCH_RESPONSE)


@router.delete("/{kind}/{id}", status_code=204)
def remove(request: Request, kind: Kind, id: str) -> Response:
    found = _KINDS[kind]
    with _changing(request) as change:
        _found(change.connection, found, id)
        found.remove(change, id)
    return Response(status_code=204)


def include_errors(app: FastAPI) -> None:
    """Refusals take SCIM's form."""

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, SCIMException)
        return _json(error.to_error().model_dump(), error.status)

    app.add_exception_handler(SCIMException, refused)


def _read(model: type[_Payload], fields: Mapping[str, Any], context: Context) -> _Payload:
    try:
        return model.model_validate(fields, scim_ctx=context, scim_policy=SERVICE.policy)
    except ValidationError as error:
        raise SCIMException.from_error(Error.from_validation_errors(error)[0]) from error


def _matching(connection: Connection, kind: _Kind, query: SearchRequest[Any], part: slice) -> tuple[int, Sequence[Any]]:
    """How many there are, and a part of them. Providers list all, or look each of thousands up by name: that is asked
    of the database. Anything else is looked for here."""
    ids = kind.ids(connection, *_looked_up(kind, query))
    if query.filter is None and not query.sort_by:
        return len(ids), [kind.find(connection, id) for id in ids[part]]
    resources = [kind.find(connection, id) for id in ids]
    if query.filter is not None:
        resources = [resource for resource in resources if query.filter.match(resource)]
    return len(resources), (query.sort(resources) if query.sort_by else resources)[part]


def _looked_up(kind: _Kind, query: SearchRequest[Any]) -> tuple[str | None, str | None]:
    """The name or externalId that a filter is about, and nothing else."""
    node = query.filter.ast if query.filter is not None else None
    if isinstance(node, Comparison) and node.op == CompareOperator.eq and isinstance(node.value, str):
        attribute = _attribute(node.attr_path)
        return (node.value if attribute == kind.key else None), (node.value if attribute == "externalid" else None)
    return None, None


def _attribute(path: AttrPath) -> str:
    return str(path).rpartition(":")[2].lower()


@contextmanager
def _changing(request: Request) -> Iterator[Change]:
    try:
        with changing(request.app.state.runtime.database, Actor(id=users.ACTOR, origin=origin_of(request))) as change:
            yield change
    except ConfigError as error:
        raise SCIMException(detail=str(error)) from error
    except StorageError as error:
        raise _failure(503, str(error)) from error


def _failure(status: int, detail: str) -> SCIMException:
    failure = SCIMException(detail=detail)
    failure.status = status
    return failure


def _found(connection: Connection, kind: _Kind, id: str) -> Any:
    found = kind.find(connection, id)
    if found is None:
        raise NotFoundException(detail=f"there is no {kind.model.__name__.lower()} {id[:64]}")
    return found


def _described(request: Request, place: str, resources: Sequence[Resource[Any]]) -> Response:
    if "filter" in request.query_params:  # RFC 7644, section 4
        raise _failure(403, "these can't be filtered")
    shown = [resource.model_dump(scim_ctx=Context.RESOURCE_QUERY_RESPONSE) for resource in resources]
    listed = {"schemas": [str(ListResponse.__schema__)], "totalResults": len(shown), "itemsPerPage": len(shown)}
    return _json(listed | {"startIndex": 1, "Resources": shown})


def _one_described(request: Request, place: str, resources: Sequence[Resource[Any]], id: str) -> Response:
    for resource in resources:
        if resource.id == id:
            return _reply(request, resource, place)
    raise NotFoundException(detail=f"there is no {id[:64]}")


def _locate(request: Request, resource: Resource[Any], place: str) -> None:
    if resource.meta is not None:
        resource.meta.location = f"{base_url(request)}{PATH}/{place}/{resource.id}"
    for member in getattr(resource, "members", None) or ():
        member.ref = f"{base_url(request)}{PATH}/Users/{member.value}"


def _reply(
    request: Request,
    resource: Resource[Any],
    place: str,
    context: Context = Context.RESOURCE_QUERY_RESPONSE,
    status: int = 200,
) -> Response:
    wanted = {k: v for k, v in request.query_params.items() if k in ("attributes", "excludedAttributes")}
    parameters = _read(ResponseParameters[Any], wanted, Context.DEFAULT) if wanted else None
    _locate(request, resource, place)
    answer = _json(resource.model_dump(scim_ctx=context, response_parameters=parameters), status)
    if resource.meta is not None and resource.meta.location:
        answer.headers["Location" if status == 201 else "Content-Location"] = resource.meta.location
    return answer


def _json(content: object, status: int = 200) -> Response:
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return JSONResponse(content, status_code=status, media_type=_TYPE, headers=headers)
