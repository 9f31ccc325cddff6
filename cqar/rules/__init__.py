"""The rules of the registry as pure functions: normal forms, choice among candidates, the trade gate.

`addresses`, `caip` and `text` know single values, `records` whole records, `choose` and `gate` give answers. Server and
client call the same functions; nothing here does I/O.
"""
