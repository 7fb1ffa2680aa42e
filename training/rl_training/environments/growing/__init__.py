"""The growing-network environment: a policy grows a small convolutional network while it trains.

``lifecycle`` and ``curves`` are pure; ``blueprints``, ``styles`` and ``host`` are the network; ``environment``
is one copy as a Gymnasium environment, ``vector`` many copies over worker processes.
"""
