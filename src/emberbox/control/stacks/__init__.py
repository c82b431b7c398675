"""CloudFormation: stacks of resources that are made from templates."""
