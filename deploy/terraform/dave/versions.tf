# One exact version, so that two operators, and one operator a year later, get the same plan from the same files. It is
# raised by hand: read the provider's changelog, run `terraform init -upgrade` and commit the .terraform.lock.hcl.
# Version 1.9 of Terraform is the first in which a variable's validation may read another variable.
terraform {
  required_version = ">= 1.9"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "7.37.0"
    }
  }
}

provider "google" {
  project = var.project_id
}
