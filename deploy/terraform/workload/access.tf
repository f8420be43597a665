# What the VM may do in Google Cloud: ask for attestation tokens, write logs, read its own image. Nothing else.

resource "google_service_account" "workload" {
  project      = var.project_id
  account_id   = var.name
  display_name = "MCBN ${var.role} workload"
  depends_on   = [google_project_service.needed]
}

resource "google_project_iam_member" "workload" {
  for_each = toset([
    "roles/confidentialcomputing.workloadUser",
    "roles/logging.logWriter",
  ])

  project = var.project_id
  role    = each.value
  member  = google_service_account.workload.member
}

locals {
  repository = regex("^(?P<location>[a-z0-9-]+)-docker\\.pkg\\.dev/(?P<project>[a-z0-9-]+)/(?P<name>[a-z0-9-]+)/", var.image)
}

resource "google_artifact_registry_repository_iam_member" "workload" {
  count = var.grant_repository_access ? 1 : 0

  project    = local.repository.project
  location   = local.repository.location
  repository = local.repository.name
  role       = "roles/artifactregistry.reader"
  member     = google_service_account.workload.member
}
