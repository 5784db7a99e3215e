# The golden AMI, by Packer: an Ubuntu image of Canonical's, with what `install` puts there, seen by `check`, tidied by `clean`.
#   packer init . && packer build -var region=eu-central-1 -var repository=https://git.example/gatewayd.git -var release=v3.34.2 \
#     -var node=https://…/node-v0.12.18-linux-x64.tar.gz -var node_sha256=… .
# Checked, not run: CI parses it and holds it against `install`, and runs the three scripts in a Debian of their own.

packer {
  required_plugins {
    amazon = {
      source  = "github.com/hashicorp/amazon"
      version = "~> 1"
    }
  }
}

variable "region" {
  type = string
}

variable "repository" {
  type        = string
  description = "Whence gatewayd is cloned, and whence each update fetches, without a password."
}

variable "release" {
  type        = string
  description = "The tag of gatewayd that the image holds. Name it under ec2.releases with the image that is made."
}

variable "node" {
  type        = string
  description = "An https URL of the .tar.gz of the Node.js that this gatewayd wants."
}

variable "node_sha256" {
  type = string
}

variable "instance_type" {
  type    = string
  default = "t3.small"
}

source "amazon-ebs" "gatewayd" {
  region        = var.region
  instance_type = var.instance_type
  ami_name      = "gatewayd-${var.release}-${formatdate("YYYYMMDDhhmmss", timestamp())}"
  ssh_username  = "ubuntu"

  source_ami_filter {
    filters = {
      name                = "ubuntu/images/hvm-ssd/ubuntu-jammy-22.04-amd64-server-*"
      root-device-type    = "ebs"
      virtualization-type = "hvm"
    }
    owners      = ["099720109477"] # Canonical
    most_recent = true
  }

  metadata_options {
    http_endpoint = "enabled"
    http_tokens   = "required"
  }
  imds_support = "v2.0"
}

build {
  sources = ["source.amazon-ebs.gatewayd"]

  # The image's own first boot must be over, or its package manager is busy.
  provisioner "shell" {
    inline = ["cloud-init status --wait || true"]
  }

  provisioner "file" {
    sources     = ["install", "own-database", "clean"]
    destination = "/tmp/"
  }

  provisioner "shell" {
    inline = [
      "chmod +x /tmp/install /tmp/own-database /tmp/clean",
      "sudo LOGIN=ubuntu GATEWAYD_REPOSITORY='${var.repository}' GATEWAYD_RELEASE='${var.release}' NODE='${var.node}' NODE_SHA256='${var.node_sha256}' /tmp/install",
    ]
  }

  # All provisioners share one connection, and PAM reads /etc/environment once for each: it is ended, so that Packer connects anew.
  provisioner "shell" {
    inline            = ["sudo pkill -KILL -u ubuntu sshd"]
    expect_disconnect = true
  }

  # As the ssh-worker comes: in a connection of its own, which has the environment that was just made.
  provisioner "shell" {
    pause_before = "5s"
    script       = "check"
  }

  provisioner "shell" {
    inline = ["sudo /tmp/clean"]
  }
}
