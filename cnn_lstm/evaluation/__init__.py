"""What a forecast is worth: figures beside those of trivial forecasts."""
