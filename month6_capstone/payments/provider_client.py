"""The provider over HTTP, in the words of the payment decisions.

Every call is idempotent by its key, so the guard around it may ask again after silence. What is
left when the guard gives up (Unavailable, OutcomeUnknown, BreakerOpen) goes to the caller, who
hands the event back to be delivered again: with the same key it meets the same charge.
"""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from month6_capstone.payments.ledger import Money
from month6_capstone.payments.payment import Charged, Declined
from scalelab.clients.http import Answer, HttpClient
from scalelab.errors import Conflict, CorruptData, InvalidInput

PAYMENT_REQUIRED = 402
_DECLINED = frozenset({PAYMENT_REQUIRED})


class _Charge(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    charge_id: Annotated[str, Field(min_length=1, max_length=200)]
    order_id: UUID
    amount_minor: Annotated[int, Field(gt=0, strict=True)]
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]

    @property
    def money(self) -> Money:
        return Money(self.amount_minor, self.currency)


class _Charges(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    charges: list[_Charge]


class ProviderClient:
    """Charges, refunds and look-ups at the provider. `http` carries the guard and the deadline."""

    def __init__(self, http: HttpClient) -> None:
        self._http = http

    async def charge(self, order_id: UUID, money: Money, card_token: str) -> Charged | Declined:
        """Take `money` once per order, however often this is called for it.

        A request that the provider will never accept (say an unknown card) counts as declined.
        Raises retryable errors while the outcome is open; CorruptData if the provider answers
        with another amount than asked.
        """
        try:
            answer = await self._http.post(
                "/v1/charges",
                {
                    "order_id": str(order_id),
                    "amount_minor": money.amount_minor,
                    "currency": money.currency,
                    "card_token": card_token,
                },
                headers={"Idempotency-Key": str(order_id)},
                accept=_DECLINED,
            )
        except InvalidInput:
            return Declined("card_invalid")
        if answer.status == PAYMENT_REQUIRED:
            return Declined("card_declined")
        charge = _charge(answer)
        if charge.order_id != order_id or charge.money != money:
            raise CorruptData(f"the provider answered order {order_id} with another charge")
        return Charged(charge.charge_id, charge.money)

    async def refund(self, order_id: UUID, charge_id: str) -> None:
        """Give a charge back in full; repeats do nothing, also if it went back another way."""
        try:
            await self._http.post(
                "/v1/refunds",
                {"charge_id": charge_id},
                headers={"Idempotency-Key": f"refund-{order_id}"},
            )
        except Conflict as error:
            if error.stable_code != "refund_exceeds_charge":
                raise

    async def find_charge(self, order_id: UUID) -> Charged | None:
        """The charge of an order, if the provider ever made one."""
        answer = await self._http.get("/v1/charges", params={"order_id": str(order_id)})
        try:
            charges = _Charges.model_validate_json(answer.body).charges
        except ValidationError as error:
            raise CorruptData("the provider's list of charges cannot be read") from error
        if not charges:
            return None
        oldest = charges[0]
        return Charged(oldest.charge_id, oldest.money)


def _charge(answer: Answer) -> _Charge:
    try:
        return _Charge.model_validate_json(answer.body)
    except ValidationError as error:
        raise CorruptData("the provider's charge cannot be read") from error
