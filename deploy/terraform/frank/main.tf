# Frank's project: the client VM. It reaches Dave's server and the brokers; nobody reaches it.

module "client" {
  source = "../workload"

  project_id              = var.project_id
  zone                    = var.zone
  name                    = var.name
  role                    = "client"
  image                   = var.image
  hardware                = var.hardware
  machine_type            = var.machine_type
  debug                   = var.debug
  address                 = var.server_address
  manifest_url            = var.manifest_url
  broker_urls             = var.broker_urls
  log_level               = var.log_level
  source_ranges           = []
  external_address        = var.external_address
  grant_repository_access = var.grant_repository_access
}
