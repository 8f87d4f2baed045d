"""Where MQTT clients connect, and who may come in."""
