"""What people and programs can ask of the appliance, behind every face."""
