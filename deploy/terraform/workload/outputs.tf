output "project_number" {
  description = "The manifest's project_numbers for this role."
  value       = data.google_project.operator.number
}

output "instance_id" {
  description = "The manifest's instance_ids, where participants admit this one VM only."
  value       = google_compute_instance.workload.instance_id
}

output "service_account" {
  description = "The manifest's service_accounts, where participants pin them; and who needs to read the image's repository."
  value       = google_service_account.workload.email
}

output "internal_address" {
  description = "In the VM's own network."
  value       = google_compute_instance.workload.network_interface[0].network_ip
}

output "external_address" {
  description = "What clients connect to, and what a server's source_ranges name; null without one."
  value       = one(google_compute_address.workload[*].address)
}

output "image" {
  description = "What runs."
  value       = var.image
}

output "terms" {
  description = "Lines for [[roles.ROLE.evidence]] in the manifest's terms."
  value       = <<-TOML
    # ${var.role}, operated in ${var.project_id}
    image_digests = ["${regex("sha256:[0-9a-f]{64}$", var.image)}"]
    hwmodels = ["${local.hardware.hwmodel}"]
    restart_policies = ["Never"]
    project_numbers = ["${data.google_project.operator.number}"]
  TOML
}
