"""Releases this participant's share to attested workloads, as the agreed manifest and present consent allow."""
