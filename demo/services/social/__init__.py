"""The social app: it shows short videos and leads to shops; it sells nothing itself."""
