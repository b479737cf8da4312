"""Type checker that the import hook puts on every function of the library in tests."""

from beartype import BeartypeConf, beartype

check = beartype(
    conf=BeartypeConf(is_pep484_tower=True)
)  # an int is welcome where a float is asked for
