"""The MQTT sessions that are kept over connections and restarts, and what waits for them."""
