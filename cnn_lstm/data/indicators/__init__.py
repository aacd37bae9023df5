"""The indicators behind the feature names: one module a family, one function a feature.

Every function takes the bars of one symbol in ascending order (cross-sectional ones the whole table) and
returns one value per row. Row t uses rows up to t only, and no value depends on the unit of price or volume.
"""
