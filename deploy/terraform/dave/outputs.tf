output "project_number" {
  description = "The manifest's project_numbers for this role."
  value       = module.server.project_number
}

output "instance_id" {
  description = "The manifest's instance_ids, where participants admit this one VM only."
  value       = module.server.instance_id
}

output "service_account" {
  description = "Who needs to read the image's repository, and what the manifest may pin."
  value       = module.server.service_account
}

output "internal_address" {
  description = "In the VM's own network."
  value       = module.server.internal_address
}

output "external_address" {
  description = "What the other operator needs to know; null without one."
  value       = module.server.external_address
}

output "image" {
  description = "What runs."
  value       = module.server.image
}

output "terms" {
  description = "Lines for the manifest's terms, to be sent to the participants."
  value       = module.server.terms
}
