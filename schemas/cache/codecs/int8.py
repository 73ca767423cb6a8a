"""Hidden states as whole numbers from -127 to 127, in units of the row's scale."""

from schemas.cache.row_scaled import RowScaled


class Int8(RowScaled):
    """x ~ scale * code, the code as two's complement."""

    name = "int8"


CODEC = Int8()
