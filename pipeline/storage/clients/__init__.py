"""Connections to stores and web servers, and whom they may reach."""
