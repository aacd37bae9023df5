"""Forecasts that others made, judged by the code of `test`: tables of other libraries, of a broker."""
