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
  default = "mcbn-client"
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

variable "server_address" {
  description = "Dave's output external_address, and his port: HOST:PORT."
  type        = string
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
