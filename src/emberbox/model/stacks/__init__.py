"""The language of CloudFormation's templates, and what a stack is."""
