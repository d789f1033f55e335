"""The sub-commands of ``dpj``, by what they are about. Heavy imports happen inside each command."""
