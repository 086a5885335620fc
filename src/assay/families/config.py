"""What families are asked to be: typed, frozen, unknown names refused; read without torch."""

from __future__ import annotations

from pydantic import Field, field_validator

from assay.models.config import Config


class SetTokenConfig(Config):
    """How set tokens are learned.

    orders: shares of the orders natural, column and any (see `assay.families.orders`), which say
    which masks can be completed. last_weight: how much more a token of a row's last panel counts
    in the loss than one of the others (whose conditional law stays the best answer either way).
    """

    orders: tuple[float, float, float] = (0.5, 0.25, 0.25)
    last_weight: float = Field(default=1.0, gt=0)
    label_drop: float = Field(default=0.1, ge=0, le=1)  # for a network that has labels

    @field_validator("orders")
    @classmethod
    def _shares(cls, orders: tuple[float, float, float]) -> tuple[float, float, float]:
        if min(orders) < 0 or sum(orders) <= 0:
            raise ValueError(f"orders {orders} must be shares >= 0, one of them above 0")
        return orders
