# A network of its own. Google Cloud lets nothing in that no firewall rule names, so a client can be reached by nobody.

locals {
  region = regex("^(.*)-[a-z]$", var.zone)[0]
}

resource "google_compute_network" "workload" {
  project                 = var.project_id
  name                    = var.name
  auto_create_subnetworks = false
  depends_on              = [google_project_service.needed]
}

# Private Google Access: the attestation service and the registry are reached without an external address.
resource "google_compute_subnetwork" "workload" {
  project                  = var.project_id
  name                     = var.name
  region                   = local.region
  network                  = google_compute_network.workload.id
  ip_cidr_range            = var.subnet_range
  private_ip_google_access = true
}

resource "google_compute_firewall" "channel" {
  count = var.role == "server" ? 1 : 0

  project       = var.project_id
  name          = "${var.name}-channel"
  network       = google_compute_network.workload.id
  direction     = "INGRESS"
  source_ranges = var.source_ranges

  target_service_accounts = [google_service_account.workload.email]

  allow {
    protocol = var.channel_protocol
    ports    = [regex("[0-9]+$", var.address)]
  }
}

resource "google_compute_address" "workload" {
  count = var.external_address ? 1 : 0

  project    = var.project_id
  name       = var.name
  region     = local.region
  depends_on = [google_project_service.needed]
}

# The brokers are elsewhere in the Internet: without an external address, the way to them is this.
resource "google_compute_router" "workload" {
  count = var.external_address ? 0 : 1

  project = var.project_id
  name    = var.name
  region  = local.region
  network = google_compute_network.workload.id
}

resource "google_compute_router_nat" "workload" {
  count = var.external_address ? 0 : 1

  project                            = var.project_id
  name                               = var.name
  region                             = local.region
  router                             = google_compute_router.workload[0].name
  nat_ip_allocate_option             = "AUTO_ONLY"
  source_subnetwork_ip_ranges_to_nat = "ALL_SUBNETWORKS_ALL_IP_RANGES"
}
