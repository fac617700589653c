"""What installs and runs Headwater, held against what systemd thinks of it and against the settings."""
