"""Images and files that are none: small, large, odd, damaged and hostile."""
