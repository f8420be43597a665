variable "project_id" {
  description = "The operator's project, in which everything is made."
  type        = string
}

variable "zone" {
  description = "Where the VM runs; it has to offer the hardware."
  type        = string

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+-[a-z]$", var.zone))
    error_message = "A zone, such as europe-west4-b."
  }
}

variable "name" {
  description = "The VM's name, and the beginning of the other names."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,20}[a-z0-9]$", var.name))
    error_message = "6 to 22 lower-case letters, digits and hyphens: a service account's name is made of it."
  }
}

variable "role" {
  description = "What the image plays. It is fixed in the image; here it only chooses the variables and the firewall."
  type        = string

  validation {
    condition     = contains(["client", "server"], var.role)
    error_message = "The role is client or server."
  }
}

variable "image" {
  description = "The image in Artifact Registry, by its digest: LOCATION-docker.pkg.dev/PROJECT/REPOSITORY/NAME@sha256:DIGEST."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9-]+-docker\\.pkg\\.dev/[a-z0-9-]+/[a-z0-9-]+/[a-z0-9._/-]+@sha256:[0-9a-f]{64}$", var.image))
    error_message = "An image in Artifact Registry by its digest (...@sha256: and 64 hex digits), never by a tag: participants agreed on a digest."
  }
}

variable "hardware" {
  description = "SEV (AMD) or TDX (Intel). The manifest's hwmodels have to admit it."
  type        = string

  validation {
    condition     = contains(["SEV", "TDX"], var.hardware)
    error_message = "Confidential Space runs on SEV or TDX."
  }
}

variable "machine_type" {
  description = "Null takes the smallest that the hardware offers."
  type        = string
  default     = null

  validation {
    condition     = var.machine_type == null || can(regex(var.hardware == "SEV" ? "^n2d-" : "^c3-standard-", var.machine_type))
    error_message = "SEV needs an n2d machine, TDX a c3-standard machine."
  }
}

variable "debug" {
  description = "Boot the debug image of Confidential Space: its operator can log in, so brokers refuse it unless the manifest says insecure_debug."
  type        = bool
}

variable "address" {
  description = "The ciphertext address: for a server where it listens (MCBN_LISTEN), for a client the far end (MCBN_CONNECT)."
  type        = string

  validation {
    condition     = can(regex("^(\\[[0-9A-Fa-f:.]+\\]|[^\\s:/\\[\\]]+):[0-9]{1,5}$", var.address))
    error_message = "HOST:PORT."
  }
}

variable "manifest_url" {
  description = "Where the manifest bundle is (MCBN_MANIFEST); its signatures decide. Null when broker_urls has a broker to ask."
  type        = string
  default     = null

  validation {
    condition     = var.manifest_url == null ? length(var.broker_urls) > 0 : startswith(var.manifest_url, "https://")
    error_message = "An https URL; or null, and then broker_urls names at least one broker that has the bundle."
  }
}

variable "broker_urls" {
  description = "Broker addresses instead of the manifest's (MCBN_BROKER_<NAME>), by the participant's name in the roster."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for name, url in var.broker_urls : can(regex("^[a-z][a-z0-9-]{0,31}$", name)) && startswith(url, "https://")])
    error_message = "Names as in the roster, and https URLs."
  }
}

variable "log_level" {
  description = "MCBN_LOG_LEVEL. A hardened image shows its operator no log at all."
  type        = string
  default     = null

  validation {
    condition     = var.log_level == null || contains(["DEBUG", "INFO", "WARNING", "ERROR"], coalesce(var.log_level, "INFO"))
    error_message = "DEBUG, INFO, WARNING or ERROR."
  }
}

variable "channel_protocol" {
  description = "Of a server's port: tcp, or udp for the channel dtls12-psk. The image's EXPOSE says the same."
  type        = string
  default     = "tcp"

  validation {
    condition     = contains(["tcp", "udp"], var.channel_protocol)
    error_message = "tcp or udp."
  }
}

variable "source_ranges" {
  description = "Who may send ciphertext to a server: the clients' addresses. Empty for a client, which nobody may reach."
  type        = list(string)

  validation {
    condition     = (var.role == "server") == (length(var.source_ranges) > 0)
    error_message = "A server needs the clients' address ranges; a client has none."
  }

  validation {
    condition     = alltrue([for range in var.source_ranges : can(cidrhost(range, 0))])
    error_message = "Address ranges, such as 203.0.113.7/32."
  }
}

variable "external_address" {
  description = "Give the VM a fixed external address; else it goes out by Cloud NAT, and nobody outside of its network reaches it."
  type        = bool
}

variable "subnet_range" {
  description = "The addresses of the VM's own subnet."
  type        = string
  default     = "10.77.0.0/28"

  validation {
    condition     = can(cidrhost(var.subnet_range, 1))
    error_message = "An address range, such as 10.77.0.0/28."
  }
}

variable "grant_repository_access" {
  description = "Let the VM read the image's repository. False when another project's owner has to grant it: see the output service_account."
  type        = bool
  default     = true
}
