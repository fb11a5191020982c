"""Studio exporters against independent implementations; needs the export environment (torch)."""
