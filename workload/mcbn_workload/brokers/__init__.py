"""The participants' brokers: finding the manifest, and gathering shares from all of them at once."""
