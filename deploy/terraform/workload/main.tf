# One Confidential Space VM with one workload image.

locals {
  hardware = {
    # Only SEV on Milan can move to another host while it runs; every other kind has to end for maintenance.
    SEV = { machine_type = "n2d-standard-2", min_cpu_platform = "AMD Milan", on_host_maintenance = "MIGRATE", hwmodel = "GCP_AMD_SEV" }
    TDX = { machine_type = "c3-standard-4", min_cpu_platform = null, on_host_maintenance = "TERMINATE", hwmodel = "GCP_INTEL_TDX" }
  }[var.hardware]

  image_family = var.debug ? "confidential-space-debug" : "confidential-space"

  # The names are written here, and nowhere else: the image's label allow_env_override admits these and no others.
  environment = merge(
    { (var.role == "server" ? "MCBN_LISTEN" : "MCBN_CONNECT") = var.address },
    var.manifest_url == null ? {} : { "MCBN_MANIFEST" = var.manifest_url },
    var.log_level == null ? {} : { "MCBN_LOG_LEVEL" = var.log_level },
    { for name, url in var.broker_urls : "MCBN_BROKER_${upper(replace(name, "-", "_"))}" => url },
  )

  # There is no tee-cmd: the image forbids another command, and the manifest pins the arguments.
  metadata = merge(
    {
      "tee-image-reference" = var.image
      "tee-restart-policy"  = "Never"
    },
    { for name, value in local.environment : "tee-env-${name}" => value },
  )
}

data "google_project" "operator" {
  project_id = var.project_id
}

resource "google_project_service" "needed" {
  for_each = toset([
    "artifactregistry.googleapis.com",
    "compute.googleapis.com",
    "confidentialcomputing.googleapis.com",
    "iam.googleapis.com",
    "logging.googleapis.com",
  ])

  project            = var.project_id
  service            = each.value
  disable_on_destroy = false
}

# Confidential Space reads the metadata once, when it boots: a change of it has to make a new VM.
resource "terraform_data" "launch" {
  input = local.metadata
}

resource "google_compute_instance" "workload" {
  project          = var.project_id
  zone             = var.zone
  name             = var.name
  machine_type     = coalesce(var.machine_type, local.hardware.machine_type)
  min_cpu_platform = local.hardware.min_cpu_platform
  can_ip_forward   = false
  metadata         = local.metadata

  confidential_instance_config {
    confidential_instance_type = var.hardware
  }

  shielded_instance_config {
    enable_secure_boot          = true
    enable_vtpm                 = true
    enable_integrity_monitoring = true
  }

  scheduling {
    on_host_maintenance = local.hardware.on_host_maintenance
  }

  boot_disk {
    initialize_params {
      image = "projects/confidential-space-images/global/images/family/${local.image_family}"
      type  = "pd-balanced"
    }
  }

  network_interface {
    subnetwork = google_compute_subnetwork.workload.id
    nic_type   = "GVNIC"

    dynamic "access_config" {
      for_each = google_compute_address.workload
      content {
        nat_ip = access_config.value.address
      }
    }
  }

  service_account {
    email  = google_service_account.workload.email
    scopes = ["cloud-platform"]
  }

  lifecycle {
    replace_triggered_by = [terraform_data.launch]
  }

  # Without its roles the workload gets neither its image nor a token, and it is not restarted.
  depends_on = [
    google_project_iam_member.workload,
    google_artifact_registry_repository_iam_member.workload,
    google_compute_router_nat.workload,
  ]
}
