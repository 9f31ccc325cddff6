"""CQAR, the crypto quant asset registry: which asset is it, and may it be traded?

Trading services import `cqar.client`; `cqar.server` is the write authority. See the README for the map of the code.
"""
