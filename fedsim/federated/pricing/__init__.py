"""What the rounds of a federation cost its devices on their links: time, stragglers, bytes, joules.

::

    ledger   --messages--> exchanges: who was sent how much, and replied how much      as metered
    fleet    --premises--> devices, radios, cells
                  both     --price--> fedsim.simulator: when, and what it costs        modelled
"""

from fedsim.federated.pricing.messages import MESSAGE_OVERHEAD
from fedsim.federated.pricing.premises import Premises, premises_of, pricing_problems
from fedsim.federated.pricing.price import price
from fedsim.federated.pricing.priced import EnergyUse, PricedRound, PricedRun

__all__ = [
    "MESSAGE_OVERHEAD",
    "EnergyUse",
    "Premises",
    "PricedRound",
    "PricedRun",
    "premises_of",
    "price",
    "pricing_problems",
]
