"""How metrics are written, in the terminal and on the page."""

from __future__ import annotations


def number(value: float | None) -> str:
    """A figure with four significant digits, or what stands for none.

    Example:
        >>> number(0.0123456), number(12.3456), number(-1e-7), number(None)
        ('0.01235', '12.35', '-1e-07', '-')
    """
    return "-" if value is None else f"{value:.4g}"


def p_value(value: float | None) -> str:
    """A p-value with three digits.

    Example:
        >>> p_value(0.0321), p_value(1e-9), p_value(None)
        ('0.032', '<0.001', '-')
    """
    return "-" if value is None else "<0.001" if value < 0.001 else f"{value:.3f}"


def percent(value: float | None) -> str:
    """A share in percent, or what stands for none."""
    return "-" if value is None else f"{value:.1%}"
