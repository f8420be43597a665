"""Google Cloud, by the programs that its users have: gcloud and ssh."""
