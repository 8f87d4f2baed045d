"""What devices of the registry ask of the gateway, and what is asked of them: twins, methods, commands."""
