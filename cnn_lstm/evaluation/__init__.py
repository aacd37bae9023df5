"""What a forecast is worth: its metrics next to those of simple forecasts."""
