"""What a forecast is worth: metrics beside those of trivial forecasts."""
