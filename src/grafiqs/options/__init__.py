"""Every option, once: its name, type, default, help and rules. Command line, API and manifest read these lists."""
