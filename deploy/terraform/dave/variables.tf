# What each means is in ../workload/variables.tf, with the values that are refused.

variable "project_id" {
  type = string
}

variable "zone" {
  type    = string
  default = "europe-west4-b"
}

variable "name" {
  type    = string
  default = "mcbn-server"
}

variable "image" {
  type = string
}

variable "hardware" {
  type    = string
  default = "TDX"
}

variable "machine_type" {
  type    = string
  default = null
}

variable "debug" {
  type    = bool
  default = false
}

variable "port" {
  description = "The ciphertext port. The image exposes 7443; the launcher opens no other."
  type        = number
  default     = 7443
}

variable "channel_protocol" {
  type    = string
  default = "tcp"
}

variable "source_ranges" {
  description = "Frank's output external_address, as a range: ADDRESS/32."
  type        = list(string)
}

variable "manifest_url" {
  type    = string
  default = null
}

variable "broker_urls" {
  type    = map(string)
  default = {}
}

variable "log_level" {
  type    = string
  default = null
}

variable "external_address" {
  type    = bool
  default = true
}

variable "grant_repository_access" {
  type    = bool
  default = true
}
