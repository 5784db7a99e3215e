# GatewayZen on Nomad: the four services of compose.yaml, each a group with its own count. Checked, not run: CI parses this file
# and holds it against compose.yaml (deploy/dev/check-deploy), but has no Nomad.
#
#   nomad var put nomad/jobs/gatewayzen @secrets.json     # docs/deploy.md says how to make it
#   nomad job run -var registry=registry.example/gatewayzen -var tag=1.2.3 -var postgres=… -var redis=… deploy/nomad/gatewayzen.nomad.hcl
#
# Postgres and Redis are yours; both hold state, or are shared, and have operators of their own in most places that run Nomad.

variable "datacenters" {
  type    = list(string)
  default = ["*"]
}

variable "registry" {
  type    = string
  default = "gatewayzen"
}

variable "tag" {
  type    = string
  default = "dev"
}

# Hosts of Postgres (with its port and parameters, if they are not the usual ones) and of Redis, as in the URLs.
variable "postgres" {
  type    = string
  default = "postgres"
}

variable "redis" {
  type    = string
  default = "redis"
}

# "rediss" for TLS.
variable "redis_scheme" {
  type    = string
  default = "redis"
}

# Base URL of an OTLP/HTTP collector, for traces; empty is nowhere.
variable "otlp_endpoint" {
  type    = string
  default = ""
}

# The settings of your fleet: a copy of deploy/example.toml.
variable "settings" {
  type    = string
  default = "deploy/gatewayzen.toml"
}

job "gatewayzen" {
  datacenters = var.datacenters
  type        = "service"

  # One allocation after another, and back to the old version if a new one does not become ready.
  update {
    max_parallel      = 1
    health_check      = "checks"
    min_healthy_time  = "10s"
    healthy_deadline  = "3m"
    progress_deadline = "10m"
    auto_revert       = true
  }

  group "dispatcher" {
    count = 1

    network {
      port "health" {
        to = 8080
      }
    }

    service {
      name     = "gatewayzen-dispatcher"
      provider = "nomad"
      port     = "health"

      check {
        type     = "http"
        path     = "/readyz"
        interval = "10s"
        timeout  = "15s"
      }
    }

    # Brings the schema up to this version before a new dispatcher starts. Again and at the same time is harmless; the other
    # services wait until it is done.
    task "migrate" {
      driver = "docker"
      user   = "10001:10001"

      lifecycle {
        hook    = "prestart"
        sidecar = false
      }

      config {
        image           = "${var.registry}/gatewayzen:${var.tag}"
        command         = "migrate"
        readonly_rootfs = true
        cap_drop        = ["all"]
        security_opt    = ["no-new-privileges:true"]

        mount {
          type     = "bind"
          source   = "secrets"
          target   = "/run/secrets"
          readonly = true
        }

        mount {
          type     = "bind"
          source   = "local/gatewayzen.toml"
          target   = "/gatewayzen.toml"
          readonly = true
        }
      }

      env {
        GATEWAYZEN_CONFIG                   = "/gatewayzen.toml"
        GATEWAYZEN_POSTGRES__URL            = "postgres://postgres@${var.postgres}/gatewayzen"
        GATEWAYZEN_POSTGRES__PASSWORD_FILE  = "/run/secrets/postgres-password"
        GATEWAYZEN_REDIS__URL               = "${var.redis_scheme}://${var.redis}:6379"
        GATEWAYZEN_REDIS__PASSWORD_FILE     = "/run/secrets/redis-password"
        GATEWAYZEN_HEALTH__LISTEN           = "0.0.0.0:8080"
        GATEWAYZEN_TELEMETRY__LOG_FORMAT    = "json"
        GATEWAYZEN_TELEMETRY__OTLP_ENDPOINT = "${var.otlp_endpoint}"
      }

      template {
        destination = "local/gatewayzen.toml"
        data        = file(var.settings)
      }

      # File in /run/secrets, and which item of the Nomad variable it holds.
      dynamic "template" {
        for_each = {
          "postgres-password" = "owner_password"
          "redis-password"    = "redis_password"
        }

        content {
          destination = "secrets/${template.key}"
          perms       = "0400"
          uid         = 10001
          gid         = 10001
          data        = "{{ with nomadVar \"nomad/jobs/gatewayzen\" }}{{ .${template.value} }}{{ end }}"
        }
      }

      resources {
        cpu    = 100
        memory = 128
      }
    }

    task "dispatcher" {
      driver = "docker"
      user   = "10001:10001"
      # Longer than worker.drain (25s).
      kill_timeout = "45s"

      config {
        image           = "${var.registry}/dispatcher:${var.tag}"
        ports           = ["health"]
        readonly_rootfs = true
        cap_drop        = ["all"]
        security_opt    = ["no-new-privileges:true"]
        pids_limit      = 256

        mount {
          type     = "bind"
          source   = "secrets"
          target   = "/run/secrets"
          readonly = true
        }

        mount {
          type     = "bind"
          source   = "local/gatewayzen.toml"
          target   = "/gatewayzen.toml"
          readonly = true
        }
      }

      env {
        GATEWAYZEN_CONFIG                   = "/gatewayzen.toml"
        GATEWAYZEN_POSTGRES__URL            = "postgres://gatewayzen_service@${var.postgres}/gatewayzen"
        GATEWAYZEN_POSTGRES__PASSWORD_FILE  = "/run/secrets/postgres-password"
        GATEWAYZEN_REDIS__URL               = "${var.redis_scheme}://${var.redis}:6379"
        GATEWAYZEN_REDIS__PASSWORD_FILE     = "/run/secrets/redis-password"
        GATEWAYZEN_HEALTH__LISTEN           = "0.0.0.0:8080"
        GATEWAYZEN_TELEMETRY__LOG_FORMAT    = "json"
        GATEWAYZEN_TELEMETRY__OTLP_ENDPOINT = "${var.otlp_endpoint}"
      }

      template {
        destination = "local/gatewayzen.toml"
        data        = file(var.settings)
      }

      # File in /run/secrets, and which item of the Nomad variable it holds.
      dynamic "template" {
        for_each = {
          "postgres-password" = "dispatcher_password"
          "redis-password"    = "redis_password"
        }

        content {
          destination = "secrets/${template.key}"
          perms       = "0400"
          uid         = 10001
          gid         = 10001
          data        = "{{ with nomadVar \"nomad/jobs/gatewayzen\" }}{{ .${template.value} }}{{ end }}"
        }
      }

      resources {
        cpu    = 200
        memory = 256
      }
    }
  }

  group "instance-worker" {
    count = 1

    # One for each 100 jobs that wait in its queues; a worker has 50 slots (worker.slots).
    scaling {
      enabled = true
      min     = 1
      max     = 4

      policy {
        cooldown            = "2m"
        evaluation_interval = "15s"

        check "backlog" {
          source = "prometheus"
          query  = "ceil(sum(max by (queue) (gatewayzen_queue_depth{queue=~\"initializeEc2Instance|terminateEc2Instance\"})) / 100)"

          # The query says how many.
          strategy "pass-through" {}
        }
      }
    }

    network {
      port "health" {
        to = 8080
      }
    }

    service {
      name     = "gatewayzen-instance-worker"
      provider = "nomad"
      port     = "health"

      check {
        type     = "http"
        path     = "/readyz"
        interval = "10s"
        timeout  = "15s"
      }
    }

    task "instance-worker" {
      driver = "docker"
      user   = "10001:10001"
      # Longer than worker.drain (25s).
      kill_timeout = "45s"

      config {
        image           = "${var.registry}/instance-worker:${var.tag}"
        ports           = ["health"]
        readonly_rootfs = true
        cap_drop        = ["all"]
        security_opt    = ["no-new-privileges:true"]
        pids_limit      = 256

        mount {
          type     = "bind"
          source   = "secrets"
          target   = "/run/secrets"
          readonly = true
        }

        mount {
          type     = "bind"
          source   = "local/gatewayzen.toml"
          target   = "/gatewayzen.toml"
          readonly = true
        }
      }

      env {
        GATEWAYZEN_CONFIG                   = "/gatewayzen.toml"
        GATEWAYZEN_POSTGRES__URL            = "postgres://gatewayzen_instance_worker@${var.postgres}/gatewayzen"
        GATEWAYZEN_POSTGRES__PASSWORD_FILE  = "/run/secrets/postgres-password"
        GATEWAYZEN_REDIS__URL               = "${var.redis_scheme}://${var.redis}:6379"
        GATEWAYZEN_REDIS__PASSWORD_FILE     = "/run/secrets/redis-password"
        GATEWAYZEN_HEALTH__LISTEN           = "0.0.0.0:8080"
        GATEWAYZEN_TELEMETRY__LOG_FORMAT    = "json"
        GATEWAYZEN_TELEMETRY__OTLP_ENDPOINT = "${var.otlp_endpoint}"
        GATEWAYZEN_SECRETS__KEY_FILE        = "/run/secrets/sealing-keys"
        AWS_SHARED_CREDENTIALS_FILE         = "/run/secrets/aws-credentials"
      }

      template {
        destination = "local/gatewayzen.toml"
        data        = file(var.settings)
      }

      # File in /run/secrets, and which item of the Nomad variable it holds.
      dynamic "template" {
        for_each = {
          "postgres-password" = "instance_worker_password"
          "redis-password"    = "redis_password"
          "sealing-keys"      = "sealing_keys"
          "aws-credentials"   = "aws_credentials"
        }

        content {
          destination = "secrets/${template.key}"
          perms       = "0400"
          uid         = 10001
          gid         = 10001
          data        = "{{ with nomadVar \"nomad/jobs/gatewayzen\" }}{{ .${template.value} }}{{ end }}"
        }
      }

      resources {
        cpu    = 200
        memory = 256
      }
    }
  }

  group "ssh-worker" {
    count = 1

    # One for each 100 jobs that wait in its queues; a worker has 50 slots (worker.slots).
    scaling {
      enabled = true
      min     = 1
      max     = 10

      policy {
        cooldown            = "2m"
        evaluation_interval = "15s"

        check "backlog" {
          source = "prometheus"
          query  = "ceil(sum(max by (queue) (gatewayzen_queue_depth{queue=~\"retrieveApiKey|startGatewayd|stopGatewayd|updateGatewayd\"})) / 100)"

          # The query says how many.
          strategy "pass-through" {}
        }
      }
    }

    network {
      port "health" {
        to = 8080
      }
    }

    service {
      name     = "gatewayzen-ssh-worker"
      provider = "nomad"
      port     = "health"

      check {
        type     = "http"
        path     = "/readyz"
        interval = "10s"
        timeout  = "15s"
      }
    }

    task "ssh-worker" {
      driver = "docker"
      user   = "10001:10001"
      # Longer than worker.drain (25s).
      kill_timeout = "45s"

      config {
        image           = "${var.registry}/ssh-worker:${var.tag}"
        ports           = ["health"]
        readonly_rootfs = true
        cap_drop        = ["all"]
        security_opt    = ["no-new-privileges:true"]
        pids_limit      = 256

        mount {
          type     = "bind"
          source   = "secrets"
          target   = "/run/secrets"
          readonly = true
        }

        mount {
          type     = "bind"
          source   = "local/gatewayzen.toml"
          target   = "/gatewayzen.toml"
          readonly = true
        }
      }

      env {
        GATEWAYZEN_CONFIG                   = "/gatewayzen.toml"
        GATEWAYZEN_POSTGRES__URL            = "postgres://gatewayzen_ssh_worker@${var.postgres}/gatewayzen"
        GATEWAYZEN_POSTGRES__PASSWORD_FILE  = "/run/secrets/postgres-password"
        GATEWAYZEN_REDIS__URL               = "${var.redis_scheme}://${var.redis}:6379"
        GATEWAYZEN_REDIS__PASSWORD_FILE     = "/run/secrets/redis-password"
        GATEWAYZEN_HEALTH__LISTEN           = "0.0.0.0:8080"
        GATEWAYZEN_TELEMETRY__LOG_FORMAT    = "json"
        GATEWAYZEN_TELEMETRY__OTLP_ENDPOINT = "${var.otlp_endpoint}"
        GATEWAYZEN_SECRETS__KEY_FILE        = "/run/secrets/sealing-keys"
        GATEWAYZEN_SSH__KEY_FILE            = "/run/secrets/fleet-key"
      }

      template {
        destination = "local/gatewayzen.toml"
        data        = file(var.settings)
      }

      # File in /run/secrets, and which item of the Nomad variable it holds.
      dynamic "template" {
        for_each = {
          "postgres-password" = "ssh_worker_password"
          "redis-password"    = "redis_password"
          "sealing-keys"      = "sealing_keys"
          "fleet-key"         = "fleet_key"
        }

        content {
          destination = "secrets/${template.key}"
          perms       = "0400"
          uid         = 10001
          gid         = 10001
          data        = "{{ with nomadVar \"nomad/jobs/gatewayzen\" }}{{ .${template.value} }}{{ end }}"
        }
      }

      resources {
        cpu    = 200
        memory = 256
      }
    }
  }

  group "wallet-worker" {
    count = 1

    # One for each 100 jobs that wait in its queues; a worker has 50 slots (worker.slots).
    scaling {
      enabled = true
      min     = 1
      max     = 4

      policy {
        cooldown            = "2m"
        evaluation_interval = "15s"

        check "backlog" {
          source = "prometheus"
          query  = "ceil(sum(max by (queue) (gatewayzen_queue_depth{queue=~\"setColdWallet\"})) / 100)"

          # The query says how many.
          strategy "pass-through" {}
        }
      }
    }

    # A sealed copy of each wallet, before its server hears of it. A host volume that belongs to the user 10001.
    volume "wallets" {
      type   = "host"
      source = "gatewayzen-wallets"
    }

    network {
      port "health" {
        to = 8080
      }
    }

    service {
      name     = "gatewayzen-wallet-worker"
      provider = "nomad"
      port     = "health"

      check {
        type     = "http"
        path     = "/readyz"
        interval = "10s"
        timeout  = "15s"
      }
    }

    task "wallet-worker" {
      driver = "docker"
      user   = "10001:10001"
      # Longer than worker.drain (25s).
      kill_timeout = "45s"

      config {
        image           = "${var.registry}/wallet-worker:${var.tag}"
        ports           = ["health"]
        readonly_rootfs = true
        cap_drop        = ["all"]
        security_opt    = ["no-new-privileges:true"]
        pids_limit      = 256

        mount {
          type     = "bind"
          source   = "secrets"
          target   = "/run/secrets"
          readonly = true
        }

        mount {
          type     = "bind"
          source   = "local/gatewayzen.toml"
          target   = "/gatewayzen.toml"
          readonly = true
        }
      }

      env {
        GATEWAYZEN_CONFIG                   = "/gatewayzen.toml"
        GATEWAYZEN_POSTGRES__URL            = "postgres://gatewayzen_wallet_worker@${var.postgres}/gatewayzen"
        GATEWAYZEN_POSTGRES__PASSWORD_FILE  = "/run/secrets/postgres-password"
        GATEWAYZEN_REDIS__URL               = "${var.redis_scheme}://${var.redis}:6379"
        GATEWAYZEN_REDIS__PASSWORD_FILE     = "/run/secrets/redis-password"
        GATEWAYZEN_HEALTH__LISTEN           = "0.0.0.0:8080"
        GATEWAYZEN_TELEMETRY__LOG_FORMAT    = "json"
        GATEWAYZEN_TELEMETRY__OTLP_ENDPOINT = "${var.otlp_endpoint}"
        GATEWAYZEN_SECRETS__KEY_FILE        = "/run/secrets/sealing-keys"
        GATEWAYZEN_SECRETS__WALLET_KEY_FILE = "/run/secrets/wallet-keys"
        GATEWAYZEN_SECRETS__BACKUP_KEY_FILE = "/run/secrets/backup-keys"
        GATEWAYZEN_SECRETS__WALLET_COPIES   = "/wallets"
      }

      volume_mount {
        volume      = "wallets"
        destination = "/wallets"
      }

      template {
        destination = "local/gatewayzen.toml"
        data        = file(var.settings)
      }

      # File in /run/secrets, and which item of the Nomad variable it holds.
      dynamic "template" {
        for_each = {
          "postgres-password" = "wallet_worker_password"
          "redis-password"    = "redis_password"
          "sealing-keys"      = "sealing_keys"
          "wallet-keys"       = "wallet_keys"
          "backup-keys"       = "backup_keys"
        }

        content {
          destination = "secrets/${template.key}"
          perms       = "0400"
          uid         = 10001
          gid         = 10001
          data        = "{{ with nomadVar \"nomad/jobs/gatewayzen\" }}{{ .${template.value} }}{{ end }}"
        }
      }

      resources {
        cpu    = 200
        memory = 256
      }
    }
  }
}
