# Dave's project: the server VM. Frank's client reaches its ciphertext port, and nothing else does.

module "server" {
  source = "../workload"

  project_id              = var.project_id
  zone                    = var.zone
  name                    = var.name
  role                    = "server"
  image                   = var.image
  hardware                = var.hardware
  machine_type            = var.machine_type
  debug                   = var.debug
  address                 = "0.0.0.0:${var.port}"
  manifest_url            = var.manifest_url
  broker_urls             = var.broker_urls
  log_level               = var.log_level
  channel_protocol        = var.channel_protocol
  source_ranges           = var.source_ranges
  external_address        = var.external_address
  grant_repository_access = var.grant_repository_access
}
