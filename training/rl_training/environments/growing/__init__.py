"""The growing-network environment: a policy grows a small convolutional network while it trains.

``lifecycle`` and ``curves`` are pure; ``blueprints``, ``styles`` and ``host`` are the network; ``environment``
is one Gymnasium environment, and ``vector`` many of them in worker processes.
"""
