"""The smoke test on Google Cloud: two real VMs, the demo's acts, a report, and nothing left behind."""
