"""A model at work, evening after evening: new bars in, a look at whether it still holds, and its successor."""
