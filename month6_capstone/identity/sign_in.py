"""Registration and login: the steps, over accounts, hashes, throttle and issuer.

What an outsider can learn: whether an address has an account, by trying to register it (that is
what the answer is for). A login does not tell: unknown address and wrong password are one error
after the same work. Every failed login costs its caller a point of the throttle.
"""

from __future__ import annotations

from dataclasses import dataclass

from month6_capstone.identity.accounts import Account, add_account, find_account
from month6_capstone.identity.credentials import (
    PASSWORD_MAX,
    normalize_email,
    normalize_password,
)
from month6_capstone.identity.passwords import PasswordPool
from month6_capstone.identity.service_clients import ServiceClient, authenticate, grant_scopes
from month6_capstone.identity.throttle import LoginThrottle
from scalelab.clients.postgres import Database
from scalelab.clock import Clock
from scalelab.errors import InvalidInput, Unauthenticated
from scalelab.ids import uuid7
from scalelab.security import TokenIssuer

USER_SCOPE = "shop"


@dataclass(frozen=True, slots=True)
class Grant:
    """An access token and its lifetime in seconds."""

    access_token: str
    expires_in_s: int
    scopes: frozenset[str]


class SignIn:
    """The use cases of identity. Its parts belong to the caller, which opens and closes them."""

    def __init__(
        self,
        *,
        database: Database,
        passwords: PasswordPool,
        throttle: LoginThrottle,
        issuer: TokenIssuer,
        clients: dict[str, ServiceClient],
        token_ttl_s: int,
        clock: Clock,
    ) -> None:
        self._database = database
        self._passwords = passwords
        self._throttle = throttle
        self._issuer = issuer
        self._clients = clients
        self._token_ttl_s = token_ttl_s
        self._clock = clock

    async def register(self, raw_email: str, raw_password: str) -> str:
        """Make an account; its user id.

        Raises InvalidInput, Conflict code `email_taken`, Overloaded; OutcomeUnknown when the
        account may stand (a login then tells).
        """
        email, password = normalize_email(raw_email), normalize_password(raw_password)
        password_hash = await self._passwords.hash(password)
        now = self._clock.now()
        user_id = str(uuid7(now))
        await add_account(
            self._database, user_id=user_id, email=email, password_hash=password_hash, now=now
        )
        return user_id

    async def login(self, raw_email: str, raw_password: str, address: str) -> Grant:
        """A user's token. address: where the caller sits, for the throttle.

        Raises Unauthenticated code `credentials_wrong`, RateLimited code `login_throttled`,
        Overloaded, Unavailable.
        """
        email, password = _as_typed(raw_email, raw_password)
        self._throttle.charge(email, address, self._clock.monotonic_s())
        try:
            account = await self._account_of(email, password)
        except Unauthenticated:
            raise
        except BaseException:
            # The password was not judged: our trouble must not use up the caller's allowance.
            self._throttle.refund(email, address, self._clock.monotonic_s())
            raise
        self._throttle.refund(email, address, self._clock.monotonic_s())
        return self._grant(account.user_id, frozenset({USER_SCOPE}), client_id=None)

    def client_credentials(self, client_id: str, secret: str, requested_scope: str | None) -> Grant:
        """A service's token, by RFC 6749 section 4.4.

        Raises Unauthenticated code `invalid_client`, InvalidInput code `invalid_scope`.
        """
        client = authenticate(self._clients, client_id, secret)
        scopes = grant_scopes(client, requested_scope)
        return self._grant(client.client_id, scopes, client_id=client.client_id)

    async def _account_of(self, email: str, password: str) -> Account:
        account = await find_account(self._database, email)
        stored_hash = None if account is None else account.password_hash
        is_right = await self._passwords.verify(stored_hash, password)
        if account is None or not is_right:
            raise Unauthenticated("the address or the password is wrong", code="credentials_wrong")
        return account

    def _grant(self, subject: str, scopes: frozenset[str], *, client_id: str | None) -> Grant:
        token = self._issuer.issue(subject, scopes, self._token_ttl_s, client_id=client_id)
        return Grant(token, self._token_ttl_s, scopes)


def _as_typed(raw_email: str, raw_password: str) -> tuple[str, str]:
    """The credentials as they would be stored. What could never have been registered takes the
    same way as a wrong guess: the throttle counts it and a hash is computed for it."""
    try:
        email = normalize_email(raw_email)
    except InvalidInput:
        email = ""
    try:
        password = normalize_password(raw_password)
    except InvalidInput:
        password = raw_password[:PASSWORD_MAX]
    return email, password
