"""Links without a rate: LoRa and BLE, whose radios say how long a payload takes.

The event loop knows bits on cells and delays behind them. Devices of these links each have a cell of their
own that takes no time, and all that their radios make of payloads goes into the delays::

    computed --[another payload has the channel]--> begins --[on its way]--> arrived     up_delay_s
    served ----[the next time the device listens]----------[on its way]----> ended       down_delay_s

NB-IoT is no such link: it has a rate, and its radio states
(:func:`fedsim.hardware.nbiot.radio_model_of`).
"""

from fedsim.simulator.lowpower.air import Carried, carried, metered, remarks

__all__ = ["Carried", "carried", "metered", "remarks"]
