"""Keys by their id."""

from litestar import Controller, get, patch, post
from litestar.response import Response

from odea_contracts import keys
from odea_gateway.admin.bodies import KeyChange, Rotation
from odea_gateway.admin.operations import (
    AUTHOR,
    CHANGING,
    NO_BODY,
    READING,
    AdminRequest,
    By,
    KeyId,
    answered,
    asked,
    described,
    identifier,
)
from odea_gateway.auth import requires_admin
from odea_gateway.documentation import BEARER


class KeyController(Controller):
    """What lets callers in."""

    path = "/v1/admin/keys/{key_id:str}"
    tags = ("admin: keys",)
    guards = (requires_admin(),)
    security = BEARER
    dependencies = AUTHOR

    @get(operation_id="get_key", operation_class=described(keys.Key), summary="Read a key", responses=READING)
    async def get_key(self, request: AdminRequest, key_id: KeyId) -> Response[bytes]:
        """One key, without its secret."""
        message = keys.KeyRef(key_id=identifier(key_id, "key_id"))
        return await answered(request, keys.GET, message)

    @patch(
        operation_id="update_key",
        operation_class=described(keys.Key, KeyChange),
        summary="Change a key",
        responses=CHANGING,
    )
    async def update_key(self, request: AdminRequest, key_id: KeyId, author: By) -> Response[bytes]:
        """Its name, scopes, expiry or networks. Its limits are its account's."""
        identifier(key_id, "key_id")
        body = await asked(request, KeyChange)
        message = keys.KeyUpdate(
            key_id=key_id,
            name=body.name,
            scopes=body.scopes,
            expires_at_ms=body.expires_at_ms,
            allowed_cidrs=body.allowed_cidrs,
            **author,
        )
        return await answered(request, keys.UPDATE, message)

    @post(
        "/rotate",
        operation_id="rotate_key",
        operation_class=described(keys.Issued, Rotation),
        summary="Rotate a key",
        status_code=200,
        responses=CHANGING,
    )
    async def rotate_key(self, request: AdminRequest, key_id: KeyId, author: By) -> Response[bytes]:
        """A new secret, shown here and never again; the older ones work on for `grace_ms`."""
        identifier(key_id, "key_id")
        body = await asked(request, Rotation)
        message = keys.Rotate(
            key_id=key_id,
            grace_ms=body.grace_ms,
            **author,
        )
        return await answered(request, keys.ROTATE, message)

    @post(
        "/revoke",
        operation_id="revoke_key",
        operation_class=described(keys.Key),
        summary="Revoke a key",
        status_code=200,
        responses=NO_BODY,
    )
    async def revoke_key(self, request: AdminRequest, key_id: KeyId, author: By) -> Response[bytes]:
        """It works nowhere any more, within a second, and never again."""
        message = keys.KeyRef(key_id=identifier(key_id, "key_id"), **author)
        return await answered(request, keys.REVOKE, message)
