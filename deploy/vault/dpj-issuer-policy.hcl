# Whoever starts processes: issue secret ids of the pipeline's role, response-wrapped and short-lived only, so that what is handed
# over is good for one use and its misuse shows.
path "auth/approle/role/dpj/secret-id" {
  capabilities     = ["update"]
  min_wrapping_ttl = "1s"
  max_wrapping_ttl = "10m"
}

path "auth/approle/role/dpj/role-id" {
  capabilities = ["read"]
}
