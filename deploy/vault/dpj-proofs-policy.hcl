# Processes that sign audit checkpoints and receipts (API, audit worker, relay), beside dpj-policy: sign, and read the public halves
# that verify it. The private key stays in Vault. Whoever runs workers of a role of their own leaves it away where nothing is signed.
path "transit/sign/dpj-proofs" {
  capabilities = ["update"]
}

path "transit/keys/dpj-proofs" {
  capabilities = ["read"]
}
